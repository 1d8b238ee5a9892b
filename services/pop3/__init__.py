"""pop3 lets people fetch their mail."""
