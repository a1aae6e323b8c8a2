"""`recgen init`: looks at a folder of tables and images, and writes a configuration that runs."""
