"""What a household asks in the first week, carried out end to end: `just errands`."""
