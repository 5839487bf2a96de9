"""The development cluster and what runs beside it on a contributor's machine; in no wheel."""
