"""The files that users write and the tool records, validated at the boundary. No torch."""
