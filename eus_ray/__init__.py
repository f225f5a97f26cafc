"""Cross-validates and compares segmentation architectures on ultrasound images."""
