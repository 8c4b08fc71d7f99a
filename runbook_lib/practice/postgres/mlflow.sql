-- The part of MLflow's own tables that the runbook reads, with its names, types and keys.
CREATE TABLE experiments (
  experiment_id serial PRIMARY KEY,
  name varchar(256) NOT NULL UNIQUE,
  artifact_location varchar(256),
  lifecycle_stage varchar(32) CHECK (lifecycle_stage IN ('active', 'deleted')),
  creation_time bigint,
  last_update_time bigint
);
CREATE TABLE runs (
  run_uuid varchar(32) PRIMARY KEY,
  name varchar(250),
  status varchar(9) CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED')),
  start_time bigint,
  end_time bigint,
  user_id varchar(256),
  lifecycle_stage varchar(20),
  artifact_uri varchar(200),
  experiment_id integer REFERENCES experiments
);
CREATE TABLE metrics (
  key varchar(250) NOT NULL,
  value double precision NOT NULL,
  timestamp bigint NOT NULL,
  run_uuid varchar(32) NOT NULL REFERENCES runs,
  step bigint NOT NULL DEFAULT 0,
  is_nan boolean NOT NULL DEFAULT false,
  PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan)
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE TABLE latest_metrics (
  key varchar(250) NOT NULL,
  value double precision NOT NULL,
  timestamp bigint,
  step bigint NOT NULL,
  is_nan boolean NOT NULL,
  run_uuid varchar(32) NOT NULL REFERENCES runs,
  PRIMARY KEY (key, run_uuid)
);
CREATE TABLE params (
  key varchar(250) NOT NULL,
  value varchar(8000) NOT NULL,
  run_uuid varchar(32) NOT NULL REFERENCES runs,
  PRIMARY KEY (key, run_uuid)
);
CREATE TABLE tags (
  key varchar(250) NOT NULL,
  value varchar(8000),
  run_uuid varchar(32) NOT NULL REFERENCES runs,
  PRIMARY KEY (key, run_uuid)
);
CREATE TABLE registered_models (
  name varchar(256) PRIMARY KEY,
  creation_time bigint,
  last_updated_time bigint,
  description varchar(5000)
);
CREATE TABLE model_versions (
  name varchar(256) NOT NULL REFERENCES registered_models ON UPDATE CASCADE,
  version integer NOT NULL,
  creation_time bigint,
  last_updated_time bigint,
  description varchar(5000),
  user_id varchar(256),
  current_stage varchar(20),
  source varchar(500),
  run_id varchar(32),
  status varchar(20),
  PRIMARY KEY (name, version)
);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('practice');

INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
SELECT 'experiment-' || i, 's3://mlops-platform-production-artifacts/' || i, 'active', t, t
FROM generate_series(1, 20) i, (SELECT extract(epoch FROM now())::bigint * 1000 AS t) clock;

INSERT INTO runs
SELECT md5(i::text), 'run-' || i, CASE WHEN i % 17 = 0 THEN 'FAILED' ELSE 'FINISHED' END,
       t - i * 600000, t - i * 600000 + 420000, 'scientist-' || i % 7, 'active',
       's3://mlops-platform-production-artifacts/' || i % 20 + 1 || '/' || md5(i::text), i % 20 + 1
FROM generate_series(1, 400) i, (SELECT extract(epoch FROM now())::bigint * 1000 AS t) clock;

INSERT INTO metrics (key, value, timestamp, run_uuid, step)
SELECT 'loss', exp(-s / 4.0) + i % 10 / 100.0, t - i * 600000 + s * 1000, md5(i::text), s
FROM generate_series(1, 400) i, generate_series(1, 10) s,
     (SELECT extract(epoch FROM now())::bigint * 1000 AS t) clock;

INSERT INTO latest_metrics
SELECT DISTINCT ON (key, run_uuid) key, value, timestamp, step, is_nan, run_uuid
FROM metrics ORDER BY key, run_uuid, step DESC;

INSERT INTO registered_models
SELECT name, t, t FROM unnest(ARRAY['churn-model', 'recommender']) name,
     (SELECT extract(epoch FROM now())::bigint * 1000 AS t) clock;

INSERT INTO model_versions
SELECT name, v, creation_time, creation_time, '', 'scientist-1',
       CASE v WHEN 2 THEN 'Production' ELSE 'Archived' END,
       's3://mlops-platform-production-models/' || name || '/v' || v, md5(v::text), 'READY'
FROM registered_models, generate_series(1, 2) v;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO platform_api;
ANALYZE experiments, runs, metrics, latest_metrics;
