from models import Base

from alembic import context
from chat_schema.engine import run

run(context, target_metadata=Base.metadata, version_table_schema="billing", include_schemas=True)
