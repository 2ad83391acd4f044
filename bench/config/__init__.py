"""The configuration: schema, composition, available choices, plug-ins."""
