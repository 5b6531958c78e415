"""The database: connections, tables, migrations, statements, the single writer."""
