"""The distillers that ship, one file each; a new file here is found without editing any list."""
