[alembic]
script_location = ${script_location}
prepend_sys_path = .
path_separator = os
# a % of the password is written %%
sqlalchemy.url = postgresql://USER:PASSWORD@HOST:5432/DATABASE

[loggers]
keys = root,alembic

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = WARNING
handlers = console
qualname =

[logger_alembic]
level = INFO
handlers =
qualname = alembic

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = plain

[formatter_plain]
format = %(levelname)-5.5s [%(name)s] %(message)s
