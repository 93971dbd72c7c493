"""${message}

What:   <what changes, in one sentence; one idea a revision>
Why:    <why it is done, and why in this way>
Locks:  <each lock on a table that exists already, and for how long>
Undone: <what downgrade() does and what it cannot bring back>

Rules for a table that holds rows:
- a column comes nullable or with a constant default; NOT NULL comes by op.add_not_null_check, then (next revisions)
  op.validate_not_null_check and op.set_not_null
- an index comes by op.create_index_online, alone in its revision (each step outside a transaction must bear a rerun)
- a key or CHECK comes NOT VALID here and op.validate_constraint in a later revision
- each step outside a transaction is committed at once: the opposite function undoes it from wherever the revision failed
- rows change by op.backfill, after the revision that created the trigger which fills new rows
- a downgrade that destroys rows starts with op.refuse_data_loss
- import nothing of the application: its models will have changed when this runs again

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    ${downgrades if downgrades else "raise NotImplementedError"}
