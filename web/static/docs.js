// The API's own page, drawn from /openapi.json: no third party, nothing inline.

const make = (tag, text = "", kind = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
};

const root = document.getElementById("page");
const api = await (await fetch("/openapi.json")).json();
const resolve = (schema) =>
  schema?.$ref ? api.components.schemas[schema.$ref.split("/").at(-1)] : schema;
const typeOf = (schema) =>
  (schema?.anyOf ?? [schema]).map((s) => s?.type ?? "").filter((s) => s && s !== "null").join(" | ");

const main = make("main");
main.style.cssText = "max-width: 60rem; margin: 0 auto; padding: 2rem 1.5rem";
const title = make("h1", `${api.info.title} ${api.info.version} API`);
title.style.cssText = "font-size: 1.6rem; font-weight: 600; margin-bottom: 1.5rem";
const raw = make("a", "/openapi.json");
raw.href = "/openapi.json";
raw.style.color = "inherit";
main.append(title, raw);

for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, what] of Object.entries(methods)) {
    const part = make("section");
    part.style.cssText = "background: var(--surface); padding: 1rem 1.25rem; margin: 1rem 0; border-radius: 8px";
    const name = make("h2", `${method.toUpperCase()} ${path}`);
    name.style.cssText = "font: 600 1.1rem ui-monospace, monospace";
    part.append(name, make("p", what.summary ?? ""));
    const text = make("p", what.description ?? "");
    text.style.cssText = "color: var(--muted); white-space: pre-line; margin: .5rem 0";
    part.append(text);
    const body = resolve(what.requestBody?.content?.["application/json"]?.schema);
    const fields = [
      ...(what.parameters ?? []).map((p) => [p.name, p.required, p.schema, p.description ?? p.schema?.description]),
      ...Object.entries(body?.properties ?? {}).map(([k, v]) => [k, body.required?.includes(k), v, v.description]),
    ];
    for (const [field, required, schema, about] of fields) {
      const line = make("p");
      const label = make("code", field + (required ? " *" : ""));
      label.style.fontWeight = "600";
      line.append(label, ` ${typeOf(schema)} ${about ?? ""}`);
      part.append(line);
    }
    main.append(part);
  }
}
root.append(main);
