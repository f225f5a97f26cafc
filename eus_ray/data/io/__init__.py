"""Foreign files, read: pictures, tables, videos."""
