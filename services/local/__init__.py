"""Local delivery: owns accounts, delivers into homes as the people they belong to."""
