"""Models of other frameworks made into ONNX files by the frameworks' own converters, and what is done to any ONNX file
that comes in; the command line's alone.
"""
