"""Hostile inputs and kills: what the commands do with damaged, forged and interrupted data."""
