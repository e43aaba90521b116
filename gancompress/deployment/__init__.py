"""Files for other programs: ONNX, torch.export, AOTInductor, plain weights, int8, a class alone."""
