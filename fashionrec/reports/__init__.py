"""Pages and pictures for people who would rather look than read: HTML that needs no network."""
