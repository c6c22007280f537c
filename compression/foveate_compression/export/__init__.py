"""A compressed network as plain ONNX that stock onnxruntime runs fast, with its manifest."""
