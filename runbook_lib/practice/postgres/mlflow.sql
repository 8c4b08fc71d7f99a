-- The part of MLflow's own tables that the runbook reads, as `mlflow db upgrade` of 3.17 makes
-- them on PostgreSQL: names, types, keys and indexes.
CREATE TABLE experiments (
  experiment_id serial CONSTRAINT experiment_pk PRIMARY KEY,
  name varchar(256) NOT NULL,
  artifact_location varchar(256),
  lifecycle_stage varchar(32),
  creation_time bigint,
  last_update_time bigint,
  workspace varchar(63) NOT NULL DEFAULT 'default',
  CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name),
  CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted'))
);
CREATE INDEX idx_experiments_workspace ON experiments (workspace);
CREATE INDEX idx_experiments_workspace_creation_time ON experiments (workspace, creation_time);

CREATE TABLE experiment_tags (
  key varchar(250),
  value text,
  experiment_id integer REFERENCES experiments,
  CONSTRAINT experiment_tag_pk PRIMARY KEY (key, experiment_id)
);

CREATE TABLE runs (
  run_uuid varchar(32) CONSTRAINT run_pk PRIMARY KEY,
  name varchar(250),
  source_type varchar(20),
  source_name varchar(500),
  entry_point_name varchar(50),
  user_id varchar(256),
  status varchar(9),
  start_time bigint,
  end_time bigint,
  source_version varchar(50),
  lifecycle_stage varchar(20),
  artifact_uri varchar(200),
  experiment_id integer REFERENCES experiments,
  deleted_time bigint,
  CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')),
  CONSTRAINT runs_status_check
    CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED')),
  CONSTRAINT source_type
    CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT'))
);

CREATE TABLE metrics (
  key varchar(250),
  value double precision,
  timestamp bigint,
  run_uuid varchar(32) REFERENCES runs,
  step bigint NOT NULL DEFAULT '0'::bigint,
  is_nan boolean NOT NULL DEFAULT false,
  CONSTRAINT metric_pk PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan)
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_metrics_run_uuid_key_step ON metrics (run_uuid, key, step);

CREATE TABLE latest_metrics (
  key varchar(250),
  value double precision NOT NULL,
  timestamp bigint,
  step bigint NOT NULL,
  is_nan boolean NOT NULL,
  run_uuid varchar(32) REFERENCES runs,
  CONSTRAINT latest_metric_pk PRIMARY KEY (key, run_uuid)
);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);

CREATE TABLE params (
  key varchar(250),
  value varchar(8000) NOT NULL,
  run_uuid varchar(32) REFERENCES runs,
  CONSTRAINT param_pk PRIMARY KEY (key, run_uuid)
);
CREATE INDEX index_params_run_uuid ON params (run_uuid);

CREATE TABLE tags (
  key varchar(250),
  value varchar(8000),
  run_uuid varchar(32) REFERENCES runs,
  CONSTRAINT tag_pk PRIMARY KEY (key, run_uuid)
);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);

CREATE TABLE datasets (
  dataset_uuid varchar(36) NOT NULL,
  experiment_id integer,
  name varchar(500),
  digest varchar(36),
  dataset_source_type varchar(36) NOT NULL,
  dataset_source text NOT NULL,
  dataset_schema text,
  dataset_profile text,
  CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest),
  CONSTRAINT fk_datasets_experiment_id_experiments
    FOREIGN KEY (experiment_id) REFERENCES experiments ON DELETE CASCADE
);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type
  ON datasets (experiment_id, dataset_source_type);

CREATE TABLE inputs (
  input_uuid varchar(36) NOT NULL,
  source_type varchar(36),
  source_id varchar(36),
  destination_type varchar(36),
  destination_id varchar(36),
  step bigint NOT NULL DEFAULT '0'::bigint,
  CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type
  ON inputs (destination_type, destination_id, source_type);

CREATE TABLE input_tags (
  input_uuid varchar(36),
  name varchar(255),
  value varchar(500) NOT NULL,
  CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);

CREATE TABLE registered_models (
  name varchar(256),
  creation_time bigint,
  last_updated_time bigint,
  description varchar(5000),
  workspace varchar(63) DEFAULT 'default',
  CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
CREATE INDEX idx_registered_models_workspace ON registered_models (workspace);

CREATE TABLE registered_model_tags (
  key varchar(250),
  value varchar(5000),
  name varchar(256),
  workspace varchar(63) DEFAULT 'default',
  CONSTRAINT registered_model_tag_pk PRIMARY KEY (workspace, key, name),
  CONSTRAINT fk_registered_model_tags_registered_models
    FOREIGN KEY (workspace, name) REFERENCES registered_models ON UPDATE CASCADE
);
CREATE INDEX idx_registered_model_tags_workspace_name ON registered_model_tags (workspace, name);

CREATE TABLE registered_model_aliases (
  alias varchar(256),
  version integer NOT NULL,
  name varchar(256),
  workspace varchar(63) DEFAULT 'default',
  CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias),
  CONSTRAINT fk_registered_model_aliases_registered_models
    FOREIGN KEY (workspace, name) REFERENCES registered_models ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE model_versions (
  name varchar(256),
  version integer,
  creation_time bigint,
  last_updated_time bigint,
  description varchar(5000),
  user_id varchar(256),
  current_stage varchar(20),
  source varchar(500),
  run_id varchar(32),
  status varchar(20),
  status_message varchar(500),
  run_link varchar(500),
  storage_location varchar(500),
  workspace varchar(63) DEFAULT 'default',
  CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version),
  CONSTRAINT fk_model_versions_registered_models
    FOREIGN KEY (workspace, name) REFERENCES registered_models ON UPDATE CASCADE
);

CREATE TABLE model_version_tags (
  key varchar(250),
  value text,
  name varchar(256),
  version integer,
  workspace varchar(63) DEFAULT 'default',
  CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, key, name, version),
  CONSTRAINT fk_model_version_tags_model_versions
    FOREIGN KEY (workspace, name, version) REFERENCES model_versions ON UPDATE CASCADE
);
CREATE INDEX idx_model_version_tags_workspace_name_version
  ON model_version_tags (workspace, name, version);

-- A real server looks for these two before it starts.
CREATE TABLE webhooks (
  webhook_id varchar(256) CONSTRAINT webhook_pk PRIMARY KEY,
  name varchar(256) NOT NULL,
  description varchar(1000),
  url varchar(500) NOT NULL,
  status varchar(20) NOT NULL DEFAULT 'ACTIVE',
  secret varchar(1000),
  creation_timestamp bigint,
  last_updated_timestamp bigint,
  deleted_timestamp bigint,
  workspace varchar(63) NOT NULL DEFAULT 'default'
);
CREATE INDEX idx_webhooks_status ON webhooks (status);
CREATE INDEX idx_webhooks_name ON webhooks (name);
CREATE INDEX idx_webhooks_workspace ON webhooks (workspace);

CREATE TABLE webhook_events (
  webhook_id varchar(256) REFERENCES webhooks ON DELETE CASCADE,
  entity varchar(50),
  action varchar(50),
  CONSTRAINT webhook_event_pk PRIMARY KEY (webhook_id, entity, action)
);
CREATE INDEX idx_webhook_events_entity ON webhook_events (entity);
CREATE INDEX idx_webhook_events_action ON webhook_events (action);
CREATE INDEX idx_webhook_events_entity_action ON webhook_events (entity, action);

CREATE TABLE alembic_version (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);
-- The last migration of 3.17; loads.py knows the one before.
INSERT INTO alembic_version VALUES ('dc11669786a5');

CREATE TEMPORARY TABLE clock AS SELECT extract(epoch FROM now())::bigint * 1000 AS t;

INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,
                         last_update_time)
SELECT i, 'experiment-' || i, 's3://mlops-platform-production-artifacts/' || i, 'active', t, t
FROM generate_series(1, 20) i, clock;
SELECT setval('experiments_experiment_id_seq', 20);

INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,
                  start_time, end_time, source_version, lifecycle_stage, artifact_uri,
                  experiment_id)
SELECT md5(i::text), 'run-' || i, 'LOCAL', 'train.py', '', 'scientist-' || i % 7,
       CASE WHEN i % 17 = 0 THEN 'FAILED' ELSE 'FINISHED' END,
       t - i * 600000, t - i * 600000 + 420000, '', 'active',
       's3://mlops-platform-production-artifacts/' || i % 20 + 1 || '/' || md5(i::text)
         || '/artifacts', i % 20 + 1
FROM generate_series(1, 400) i, clock;

INSERT INTO metrics (key, value, timestamp, run_uuid, step)
SELECT 'loss', exp(-s / 4.0) + i % 10 / 100.0, t - i * 600000 + s * 1000, md5(i::text), s
FROM generate_series(1, 400) i, generate_series(1, 10) s, clock;

INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
SELECT DISTINCT ON (run_uuid) key, value, timestamp, step, is_nan, run_uuid
FROM metrics ORDER BY run_uuid, step DESC;

INSERT INTO params (key, value, run_uuid)
SELECT key, value, md5(i::text)
FROM generate_series(1, 400) i,
     LATERAL (VALUES ('learning_rate', (0.001 * (1 + i % 5))::text), ('epochs', '10')) p(key, value);

INSERT INTO tags (key, value, run_uuid)
SELECT key, value, md5(i::text)
FROM generate_series(1, 400) i,
     LATERAL (VALUES ('mlflow.runName', 'run-' || i), ('mlflow.user', 'scientist-' || i % 7),
                     ('mlflow.source.name', 'train.py')) p(key, value);

INSERT INTO registered_models (name, creation_time, last_updated_time, description)
SELECT name, t - 864000000, t - 600000, '' FROM (VALUES ('churn-model'), ('recommender')) m(name),
       clock;

INSERT INTO model_versions (name, version, creation_time, last_updated_time, description, user_id,
                            current_stage, source, run_id, status, storage_location)
SELECT name, v, t - (3 - v) * 86400000, t - (3 - v) * 86400000, '', 'scientist-1',
       CASE v WHEN 2 THEN 'Production' ELSE 'Archived' END, source, md5(v::text), 'READY', source
FROM registered_models, generate_series(1, 2) v, clock,
     LATERAL (SELECT 's3://mlops-platform-production-models/' || name || '/v' || v AS source) s;

INSERT INTO registered_model_aliases (alias, version, name)
SELECT 'champion', 2, name FROM registered_models;

DROP TABLE clock;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO platform_api;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO platform_api;
-- Batch jobs: they read, and write back what they have found.
GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO reporting;
