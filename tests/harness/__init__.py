"""What the tests stand on: a clean environment, throw-away servers, pgTAP, and ways to wait."""
