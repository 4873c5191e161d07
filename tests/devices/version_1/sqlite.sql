BEGIN TRANSACTION;
CREATE TABLE city (
	id VARCHAR(200) NOT NULL, 
	utc_offset_h FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "city" VALUES('bandung',7.0);
CREATE TABLE datastreams (
	dense_index INTEGER NOT NULL, 
	id VARCHAR(200) NOT NULL, 
	site INTEGER NOT NULL, 
	device INTEGER NOT NULL, 
	property VARCHAR(100) NOT NULL, 
	PRIMARY KEY (dense_index), 
	UNIQUE (id), 
	FOREIGN KEY(site) REFERENCES sites (dense_index), 
	FOREIGN KEY(device) REFERENCES devices (dense_index)
);
INSERT INTO "datastreams" VALUES(0,'dayeuhkolot/water_level_m',0,0,'water_level_m');
INSERT INTO "datastreams" VALUES(1,'dayeuhkolot/battery_v',0,0,'battery_v');
INSERT INTO "datastreams" VALUES(2,'lembang.rain',1,2,'rain_mm');
INSERT INTO "datastreams" VALUES(3,'dayeuhkolot/rain_mm',0,1,'rain_mm');
CREATE TABLE devices (
	dense_index INTEGER NOT NULL, 
	id VARCHAR(200) NOT NULL, 
	model TEXT NOT NULL, 
	silence_after_s FLOAT NOT NULL, 
	PRIMARY KEY (dense_index), 
	UNIQUE (id)
);
INSERT INTO "devices" VALUES(0,'awlr-1','pressure',3600.0);
INSERT INTO "devices" VALUES(1,'arr-1','',900.0);
INSERT INTO "devices" VALUES(2,'arr-2','tip',900.0);
CREATE TABLE installations (
	id INTEGER NOT NULL, 
	device INTEGER NOT NULL, 
	site INTEGER NOT NULL, 
	installed_at BIGINT NOT NULL, 
	removed_at BIGINT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(device) REFERENCES devices (dense_index), 
	FOREIGN KEY(site) REFERENCES sites (dense_index)
);
INSERT INTO "installations" VALUES(1,0,0,1790000000000000000,NULL);
INSERT INTO "installations" VALUES(2,1,1,1790000000000000000,1790000002000000000);
INSERT INTO "installations" VALUES(3,2,1,1790000000000000000,NULL);
INSERT INTO "installations" VALUES(4,1,0,1790000002000000000,NULL);
CREATE TABLE limits (
	datastream INTEGER NOT NULL, 
	fail_min FLOAT, 
	fail_max FLOAT, 
	suspect_min FLOAT, 
	suspect_max FLOAT, 
	rate_max_per_s FLOAT, 
	flat_tolerance FLOAT NOT NULL, 
	flat_suspect_s FLOAT, 
	flat_fail_s FLOAT, 
	PRIMARY KEY (datastream), 
	FOREIGN KEY(datastream) REFERENCES datastreams (dense_index)
);
INSERT INTO "limits" VALUES(0,NULL,NULL,NULL,5.0,0.01,0.0,NULL,NULL);
INSERT INTO "limits" VALUES(2,NULL,50.0,NULL,NULL,NULL,0.0,NULL,NULL);
CREATE TABLE registry (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "registry" VALUES(1,1,3);
CREATE TABLE sites (
	dense_index INTEGER NOT NULL, 
	id VARCHAR(200) NOT NULL, 
	name TEXT NOT NULL, 
	latitude FLOAT NOT NULL, 
	longitude FLOAT NOT NULL, 
	district TEXT NOT NULL, 
	PRIMARY KEY (dense_index), 
	UNIQUE (id)
);
INSERT INTO "sites" VALUES(0,'dayeuhkolot','Pos Dayeuhkolot',-6.98,107.62,'Kecamatan Dayeuhkolot');
INSERT INTO "sites" VALUES(1,'lembang','Pos Hujan “Lembang” – É',-6.81,107.61,'');
CREATE TABLE threshold_versions (
	id INTEGER NOT NULL, 
	datastream INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	directory_version INTEGER NOT NULL, 
	valid_from BIGINT NOT NULL, 
	author TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	direction INTEGER NOT NULL, 
	deadband FLOAT NOT NULL, 
	on_delay_s FLOAT NOT NULL, 
	off_delay_s FLOAT NOT NULL, 
	gate INTEGER NOT NULL, 
	steps TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (datastream, number), 
	FOREIGN KEY(datastream) REFERENCES datastreams (dense_index)
);
INSERT INTO "threshold_versions" VALUES(1,0,1,1,1790000000000000000,'setup','saved with the datastream',1,0.05,60.0,0.0,0,'[{"value":1.5,"severity":1,"label":"Siaga 3"},{"value":2.0,"severity":2,"label":"Siaga 2"},{"value":2.9,"severity":3,"label":"Siaga 1"}]');
INSERT INTO "threshold_versions" VALUES(2,2,1,1,1790000000000000000,'setup','saved with the datastream',1,0.0,0.0,0.0,0,'[{"value":10.0,"severity":1,"label":"lebat"}]');
INSERT INTO "threshold_versions" VALUES(3,0,2,2,1790000001000000000,'Rina','survey',1,0.0,0.0,0.0,0,'[{"value":1.2,"severity":2,"label":"Siaga"}]');
CREATE INDEX ix_installations_device ON installations (device);
CREATE INDEX ix_installations_removed_at ON installations (removed_at);
CREATE INDEX threshold_versions_by_directory_version ON threshold_versions (directory_version);
COMMIT;
