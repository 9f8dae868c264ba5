"""What Syncline costs, each figure beside a floor that is measured in the same run. See README.md."""
