"""FP8, INT8 and NVFP4: formats, conversion, calibration."""
