"""Token prices in US dollars, one file per source."""
