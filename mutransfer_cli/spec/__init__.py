"""What users write and what the tool records, validated at the boundary. No torch."""
