"""events_quarantine: what broke the contract, with the reason, never dropped."""

from foretaste.tables.table import Column, Table

QUARANTINE = Table(
    name="events_quarantine",
    comment="One row per raw record that is not an event, with the reason",
    columns=(
        Column(name="reason", type="string", comment="what is wrong with it: no_user, unparsable_time, …", required=True),
        Column(name="source", type="string", comment="the name of the source", required=True),
        Column(name="source_file", type="string", comment="the file it was read from", required=True),
        Column(name="record", type="string", comment="the record as it was read, as JSON or the raw line", required=True),
        Column(name="record_id", type="string", comment="a hash of source, file and record, and its count among equals", required=True),
    ),
    key=("record_id",),
)
