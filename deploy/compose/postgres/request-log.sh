#!/bin/sh
# The request log's database beside MLflow's, with a role that owns it and one that may connect: PostgreSQL's image runs this when
# it makes its files. `inferry migrate` makes the tables, and lets the second role insert.
set -eu
psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set owner="$REQUEST_LOG_OWNER_PASSWORD" --set writer="$REQUEST_LOG_PASSWORD" <<'SQL'
CREATE ROLE inferry LOGIN PASSWORD :'owner';
CREATE ROLE inferry_writer LOGIN PASSWORD :'writer';
CREATE DATABASE inferry OWNER inferry;
REVOKE ALL ON DATABASE inferry, mlflow FROM PUBLIC;
GRANT CONNECT ON DATABASE inferry TO inferry_writer;
SQL
