"""The database: connections, tables, migrations, statements, the one writer."""
