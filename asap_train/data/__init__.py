"""From photos or mannequins to the rows of a HAP data set."""
