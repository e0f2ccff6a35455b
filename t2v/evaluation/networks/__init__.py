"""Networks whose features evaluations measure in; their widths are those of the weights given."""
