#!/bin/sh
# Makes the role of the servers, with the least rights that they need. The image of PostgreSQL runs this once, when it makes the
# database. Tables that a migration makes later have the same rights.
set -eu

psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set database="$POSTGRES_DB" --set owner="$POSTGRES_USER" \
    --set password="$(cat "${SUBJOBS_PASSWORD_FILE:-/run/secrets/subjobs-password}")" <<'SQL'
CREATE ROLE subjobs LOGIN PASSWORD :'password';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO subjobs;
GRANT USAGE ON SCHEMA public TO subjobs;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO subjobs;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE ON SEQUENCES TO subjobs;
SQL
