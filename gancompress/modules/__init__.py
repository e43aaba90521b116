"""What is true of any ``nn.Module``: copies, nested values, source lines, running undisturbed."""
