#!/bin/bash
# Runs once, at InfluxDB's first start, after the image has made organisation, bucket and admin.
# Grafana reads by InfluxQL: that needs a database name for the bucket (DBRP) and a user of the 1.x API.
set -eu
influx v1 dbrp create \
  --org "$DOCKER_INFLUXDB_INIT_ORG" --bucket-id "$DOCKER_INFLUXDB_INIT_BUCKET_ID" \
  --db "$DOCKER_INFLUXDB_INIT_BUCKET" --rp autogen --default
influx v1 auth create \
  --org "$DOCKER_INFLUXDB_INIT_ORG" --read-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID" \
  --username grafana --password "$GRAFANA_READER_PASSWORD"
