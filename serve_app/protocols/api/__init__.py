"""What the API documents are made of: records of the wire's shapes, and tables of the doors."""
