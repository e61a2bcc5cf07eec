"""bertmill's library: text in, a pretrained and evaluated BERT encoder out. Imports no Prefect."""
