"""Lines of a document that aren't its text: what a page says of itself, in English and Chinese.

A line goes whose every part, between bars, dots and arrows, is a phrase of navigation; and a line of at most 300
characters that speaks of cookies, scripts, policies or rights. C4's line rules (Raffel et al. 2020) without their
rejections, and without what they take of lists and headings. The lists are short and exact: nothing is guessed at.
"""

import re
from dataclasses import replace

from pipeline.corpus.document import Document, Edited, Verdict

_NAVIGATION = (
    "home|menu|search|site map|sitemap|about|about us|contact|contact us|help|faq|login|log in|sign in|sign up|"
    "register|log out|my account|subscribe|subscribe now|newsletter|rss|share|share this|share on facebook|"
    "share on twitter|tweet|facebook|twitter|instagram|youtube|linkedin|pinterest|whatsapp|email|email this|print|"
    "print this page|read more|learn more|show more|load more|click here|more|next|previous|next page|"
    "previous page|back|back to top|top|close|skip to content|skip to main content|leave a comment|leave a reply|"
    "reply|comments|no comments|post a comment|add to cart|advertisement|sponsored|terms|privacy|cookies|"
    "terms of use|terms of service|privacy policy|cookie policy|accept|accept all|accept all cookies|"
    "related posts|related articles|首页|主页|登录|注册|登录/注册|退出|搜索|菜单|导航|网站地图|关于我们|联系我们|"
    "帮助|分享|分享到|分享到微信|分享到微博|微博|微信|收藏|打印|评论|发表评论|我要评论|回复|点赞|更多|查看更多|"
    "点击查看|阅读全文|展开全文|上一页|下一页|上一篇|下一篇|尾页|返回|返回顶部|回到顶部|返回首页|关闭|广告|"
    "相关阅读|相关文章|热门推荐|猜你喜欢|免责声明|隐私政策|用户协议|扫一扫|关注我们|加入收藏|设为首页"
)
_NOTICES = (
    "uses cookies|use cookies|use of cookies|cookie policy|privacy policy|terms of use|terms of service|"
    "enable javascript|javascript is disabled|javascript is required|all rights reserved|powered by wordpress|"
    "版权所有|未经授权|未经许可|不得转载|请勿转载|转载请注明|责任编辑|备案号|icp备|icp证|公网安备|启用javascript|"
    "使用cookie|扫描二维码|扫码关注|长按识别"
)
NAVIGATION = frozenset(_NAVIGATION.split("|"))
"""What a line of links is made of, case aside."""
NOTICES = tuple(_NOTICES.split("|"))
"""What a line about the page rather than its matter holds, case aside."""
LONGEST_NAVIGATION, LONGEST_NOTICE = 120, 300
_PARTS = re.compile(r"[|·•»«›‹>→←\t\[\]]+| [-–—/] |\s{2,}")
_BREAKS = re.compile(r"\n{3,}")


def boilerplate_lines(document: Document) -> Verdict:
    """The text without its lines of navigation and notices."""
    lowered = document.text.lower()
    notices = tuple(phrase for phrase in NOTICES if phrase in lowered)
    lines = document.text.split("\n")
    kept = [line for line in lines if not _is_boilerplate(line, notices)]
    if len(kept) == len(lines):
        return None
    text = _BREAKS.sub("\n\n", "\n".join(kept)).strip("\n")
    return Edited(replace(document, text=text), {"boilerplate lines": len(lines) - len(kept)})


def _is_boilerplate(line: str, notices: tuple[str, ...]) -> bool:
    if notices and len(line) <= LONGEST_NOTICE:
        lowered = line.lower()
        if any(phrase in lowered for phrase in notices):
            return True
    if len(line) > LONGEST_NAVIGATION:
        return False
    parts = [part for part in map(str.strip, _PARTS.split(line.lower())) if part]
    return bool(parts) and all(part.strip(" :：….>") in NAVIGATION for part in parts)
