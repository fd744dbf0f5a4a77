package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/navvy-run/navvy"
)

// version of the tables, kept in the table meta.
const version = 1

// tables are made in an empty schema. Keys are bytes, whose order knows no
// collation. Chunks of logs are not compressed: their parts are read.
//
// check_conditions raises an error if a condition of a batch does not hold,
// which undoes the batch; the error's detail names the keys. put_absent puts
// what must be absent, and does the same if a row was there before: a row that
// this transaction has not made.
const tables = `
CREATE TABLE SCHEMA.meta (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	version integer NOT NULL,
	flushes bigint NOT NULL DEFAULT 0
);
CREATE TABLE SCHEMA.kv (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE SCHEMA.log (id bigserial PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE);
CREATE TABLE SCHEMA.chunk (
	log bigint NOT NULL REFERENCES SCHEMA.log ON DELETE CASCADE,
	start bigint NOT NULL,
	data bytea NOT NULL,
	PRIMARY KEY (log, start)
);
ALTER TABLE SCHEMA.chunk ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE FUNCTION SCHEMA.check_conditions(absent bytea[], keys bytea[], vals bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	failed bytea[];
BEGIN
	SELECT array_agg(f.key) INTO failed FROM (
		SELECT kv.key FROM SCHEMA.kv WHERE kv.key = ANY (absent)
		UNION
		SELECT c.key FROM unnest(keys, vals) AS c (key, value) LEFT JOIN SCHEMA.kv ON kv.key = c.key
		WHERE kv.value IS DISTINCT FROM c.value
	) AS f;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'conditions do not hold' USING ERRCODE = 'NV001', DETAIL =
			(SELECT string_agg(encode(key, 'hex'), ' ') FROM unnest(failed) AS key);
	END IF;
END $$;
CREATE FUNCTION SCHEMA.put_absent(keys bytea[], vals bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	INSERT INTO SCHEMA.kv (key, value) SELECT * FROM unnest(keys, vals) ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n < cardinality(keys) THEN
		PERFORM SCHEMA.check_conditions((SELECT array_agg(k) FROM unnest(keys) AS k WHERE NOT EXISTS (
			SELECT FROM SCHEMA.kv WHERE kv.key = k AND kv.xmin = pg_current_xact_id()::xid)), '{}', '{}');
	END IF;
END $$;
INSERT INTO SCHEMA.meta (version) VALUES (VERSION);
`

// conflictCode is the error code that check_conditions raises.
const conflictCode = "NV001"

// settle takes the right to be the only navvy on this schema, for as long as the
// connection lives, and makes the tables if they are not there.
func settle(ctx context.Context, conn *pgx.Conn, schema string) error {
	if err := lock(ctx, conn, schema); err != nil {
		return err
	}
	found, err := foundVersion(ctx, conn, schema)
	if err != nil {
		return err
	}
	switch {
	case found == 0:
		return makeTables(ctx, conn, schema)
	case found > version:
		return fmt.Errorf("version %d, this navvy knows up to %d: use the navvy that wrote it, or a newer one: %w",
			found, version, navvy.ErrCorrupt)
	}
	return nil
}

// lock takes the lock. It waits a little: the server may not have noticed yet
// that the last holder is gone.
func lock(ctx context.Context, conn *pgx.Conn, schema string) error {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte("navvy " + schema)) // never fails
	if _, err := conn.Exec(ctx, "SET lock_timeout = '2s'"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(hash.Sum64()))
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == "55P03" { // lock_not_available
		return fmt.Errorf("held by another navvy: stop that one, or choose another database or schema: %w", navvy.ErrUnavailable)
	}
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SET lock_timeout = 0")
	return err
}

// foundVersion returns the version of the tables, 0 if there are none.
func foundVersion(ctx context.Context, conn *pgx.Conn, schema string) (found int, err error) {
	var there bool
	err = conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", schema+".meta").Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT version FROM "+schema+".meta").Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("table %s.meta is empty: %w", schema, navvy.ErrCorrupt)
	}
	return found, err
}

func makeTables(ctx context.Context, conn *pgx.Conn, schema string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", schema).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
				return err
			}
		}
		statements := strings.NewReplacer("SCHEMA", schema, "VERSION", fmt.Sprint(version)).Replace(tables)
		// More than one statement at once takes the simple protocol.
		_, err := tx.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}
