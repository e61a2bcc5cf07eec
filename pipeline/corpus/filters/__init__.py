"""What a document is judged and changed by: pure functions of one document, and the measures of a text they share."""
