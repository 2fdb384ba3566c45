"""What is written about data sets and fits: pages, tables, cards."""
