CREATE TABLE public.city (
    id character varying(200) NOT NULL,
    utc_offset_h double precision NOT NULL
);
CREATE TABLE public.datastreams (
    dense_index integer NOT NULL,
    id character varying(200) NOT NULL,
    site integer NOT NULL,
    device integer NOT NULL,
    property character varying(100) NOT NULL
);
CREATE TABLE public.devices (
    dense_index integer NOT NULL,
    id character varying(200) NOT NULL,
    model text NOT NULL,
    silence_after_s double precision NOT NULL
);
CREATE TABLE public.installations (
    id integer NOT NULL,
    device integer NOT NULL,
    site integer NOT NULL,
    installed_at bigint NOT NULL,
    removed_at bigint
);
CREATE SEQUENCE public.installations_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.installations_id_seq OWNED BY public.installations.id;
CREATE TABLE public.limits (
    datastream integer NOT NULL,
    fail_min double precision,
    fail_max double precision,
    suspect_min double precision,
    suspect_max double precision,
    rate_max_per_s double precision,
    flat_tolerance double precision NOT NULL,
    flat_suspect_s double precision,
    flat_fail_s double precision
);
CREATE TABLE public.registry (
    id integer NOT NULL,
    schema_version integer NOT NULL,
    version integer NOT NULL
);
CREATE SEQUENCE public.registry_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.registry_id_seq OWNED BY public.registry.id;
CREATE TABLE public.sites (
    dense_index integer NOT NULL,
    id character varying(200) NOT NULL,
    name text NOT NULL,
    latitude double precision NOT NULL,
    longitude double precision NOT NULL,
    district text NOT NULL
);
CREATE TABLE public.threshold_versions (
    id integer NOT NULL,
    datastream integer NOT NULL,
    number integer NOT NULL,
    directory_version integer NOT NULL,
    valid_from bigint NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    direction integer NOT NULL,
    deadband double precision NOT NULL,
    on_delay_s double precision NOT NULL,
    off_delay_s double precision NOT NULL,
    gate integer NOT NULL,
    steps text NOT NULL
);
CREATE SEQUENCE public.threshold_versions_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.threshold_versions_id_seq OWNED BY public.threshold_versions.id;
ALTER TABLE ONLY public.installations ALTER COLUMN id SET DEFAULT nextval('public.installations_id_seq'::regclass);
ALTER TABLE ONLY public.registry ALTER COLUMN id SET DEFAULT nextval('public.registry_id_seq'::regclass);
ALTER TABLE ONLY public.threshold_versions ALTER COLUMN id SET DEFAULT nextval('public.threshold_versions_id_seq'::regclass);
INSERT INTO public.city VALUES ('bandung', 7);
INSERT INTO public.datastreams VALUES (0, 'dayeuhkolot/water_level_m', 0, 0, 'water_level_m');
INSERT INTO public.datastreams VALUES (1, 'dayeuhkolot/battery_v', 0, 0, 'battery_v');
INSERT INTO public.datastreams VALUES (3, 'dayeuhkolot/rain_mm', 0, 1, 'rain_mm');
INSERT INTO public.datastreams VALUES (2, 'lembang.rain', 1, 2, 'rain_mm');
INSERT INTO public.devices VALUES (0, 'awlr-1', 'pressure', 3600);
INSERT INTO public.devices VALUES (1, 'arr-1', '', 900);
INSERT INTO public.devices VALUES (2, 'arr-2', 'tip', 900);
INSERT INTO public.installations VALUES (1, 0, 0, 1790000000000000000, NULL);
INSERT INTO public.installations VALUES (3, 2, 1, 1790000000000000000, NULL);
INSERT INTO public.installations VALUES (2, 1, 1, 1790000000000000000, 1790000002000000000);
INSERT INTO public.installations VALUES (4, 1, 0, 1790000002000000000, NULL);
INSERT INTO public.limits VALUES (0, NULL, NULL, NULL, 5, 0.01, 0, NULL, NULL);
INSERT INTO public.limits VALUES (2, NULL, 50, NULL, NULL, NULL, 0, NULL, NULL);
INSERT INTO public.registry VALUES (1, 1, 3);
INSERT INTO public.sites VALUES (0, 'dayeuhkolot', 'Pos Dayeuhkolot', -6.98, 107.62, 'Kecamatan Dayeuhkolot');
INSERT INTO public.sites VALUES (1, 'lembang', 'Pos Hujan “Lembang” – É', -6.81, 107.61, '');
INSERT INTO public.threshold_versions VALUES (1, 0, 1, 1, 1790000000000000000, 'setup', 'saved with the datastream', 1, 0.05, 60, 0, 0, '[{"value":1.5,"severity":1,"label":"Siaga 3"},{"value":2.0,"severity":2,"label":"Siaga 2"},{"value":2.9,"severity":3,"label":"Siaga 1"}]');
INSERT INTO public.threshold_versions VALUES (2, 2, 1, 1, 1790000000000000000, 'setup', 'saved with the datastream', 1, 0, 0, 0, 0, '[{"value":10.0,"severity":1,"label":"lebat"}]');
INSERT INTO public.threshold_versions VALUES (3, 0, 2, 2, 1790000001000000000, 'Rina', 'survey', 1, 0, 0, 0, 0, '[{"value":1.2,"severity":2,"label":"Siaga"}]');
SELECT pg_catalog.setval('public.installations_id_seq', 4, true);
SELECT pg_catalog.setval('public.registry_id_seq', 1, false);
SELECT pg_catalog.setval('public.threshold_versions_id_seq', 3, true);
ALTER TABLE ONLY public.city
    ADD CONSTRAINT city_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.datastreams
    ADD CONSTRAINT datastreams_id_key UNIQUE (id);
ALTER TABLE ONLY public.datastreams
    ADD CONSTRAINT datastreams_pkey PRIMARY KEY (dense_index);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_id_key UNIQUE (id);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (dense_index);
ALTER TABLE ONLY public.installations
    ADD CONSTRAINT installations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.limits
    ADD CONSTRAINT limits_pkey PRIMARY KEY (datastream);
ALTER TABLE ONLY public.registry
    ADD CONSTRAINT registry_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.sites
    ADD CONSTRAINT sites_id_key UNIQUE (id);
ALTER TABLE ONLY public.sites
    ADD CONSTRAINT sites_pkey PRIMARY KEY (dense_index);
ALTER TABLE ONLY public.threshold_versions
    ADD CONSTRAINT threshold_versions_datastream_number_key UNIQUE (datastream, number);
ALTER TABLE ONLY public.threshold_versions
    ADD CONSTRAINT threshold_versions_pkey PRIMARY KEY (id);
CREATE INDEX ix_installations_device ON public.installations USING btree (device);
CREATE INDEX ix_installations_removed_at ON public.installations USING btree (removed_at);
CREATE INDEX threshold_versions_by_directory_version ON public.threshold_versions USING btree (directory_version);
ALTER TABLE ONLY public.datastreams
    ADD CONSTRAINT datastreams_device_fkey FOREIGN KEY (device) REFERENCES public.devices(dense_index);
ALTER TABLE ONLY public.datastreams
    ADD CONSTRAINT datastreams_site_fkey FOREIGN KEY (site) REFERENCES public.sites(dense_index);
ALTER TABLE ONLY public.installations
    ADD CONSTRAINT installations_device_fkey FOREIGN KEY (device) REFERENCES public.devices(dense_index);
ALTER TABLE ONLY public.installations
    ADD CONSTRAINT installations_site_fkey FOREIGN KEY (site) REFERENCES public.sites(dense_index);
ALTER TABLE ONLY public.limits
    ADD CONSTRAINT limits_datastream_fkey FOREIGN KEY (datastream) REFERENCES public.datastreams(dense_index);
ALTER TABLE ONLY public.threshold_versions
    ADD CONSTRAINT threshold_versions_datastream_fkey FOREIGN KEY (datastream) REFERENCES public.datastreams(dense_index);
