// Swagger UI over this server's own description, with what it has not itself: examples that follow the field `model`,
// numbers beside one another, and no lines about what is not offered.

const WIDTH = 100;

/** JSON with lists of plain values on as few lines as they need. */
function compact(value, indent = "") {
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.some((item) => typeof item === "object" && item !== null)) {
      return `[\n${value.map((item) => inner + compact(item, inner)).join(",\n")}\n${indent}]`;
    }
    const lines = [""];
    for (const item of value.map((each) => JSON.stringify(each))) {
      const last = lines.at(-1);
      if (last && last.length + item.length + 2 > WIDTH) lines.push(item);
      else lines[lines.length - 1] = last ? `${last}, ${item}` : item;
    }
    return lines.length === 1 ? `[${lines[0]}]` : `[\n${lines.map((line) => inner + line).join(",\n")}\n${indent}]`;
  }
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${compact(item, inner)}`);
  return `{\n${members.join(",\n")}\n${indent}}`;
}

const examplesOf = (operation) => operation?.requestBody?.content?.["application/json"]?.examples;

/** The description as the page shows it: without what is not offered, its examples as text. */
function shown(description) {
  const paths = {};
  for (const [path, operations] of Object.entries(description.paths)) {
    const offered = Object.entries(operations).filter(([, { responses }]) => Object.keys(responses).some((status) => status[0] === "2"));
    if (offered.length) paths[path] = Object.fromEntries(offered);
    for (const [, operation] of offered) {
      for (const example of Object.values(examplesOf(operation) || {})) example.value = compact(example.value);
    }
  }
  return { ...description, paths };
}

let description = { paths: {} };
// Whether one of the two is being set because the other was.
let isFollowing = false;

function follow(act) {
  if (isFollowing) return;
  isFollowing = true;
  act();
  isFollowing = false;
}

const plugin = (system) => ({
  afterLoad() {
    // It would read an example that is text, and write it anew with a line for each number.
    const made = this.fn.getSampleSchema;
    this.fn.getSampleSchema = (schema, type, config, example) => (typeof example === "string" ? example : made(schema, type, config, example));
  },
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (json) => {
          description = shown(json);
          return original(description);
        },
        changeParamByIdentity: (original) => (pathMethod, parameter, value, isXml) => {
          const done = original(pathMethod, parameter, value, isXml);
          const [path, method] = pathMethod;
          const example = parameter.get("name") === "model" && examplesOf(description.paths[path]?.[method])?.[value];
          if (example) {
            follow(() => {
              const actions = system.getSystem().oas3Actions;
              actions.setActiveExamplesMember({ name: value, pathMethod, contextType: "requestBody", contextName: "requestBody" });
              actions.setRequestBodyValue({ value: example.value, pathMethod });
            });
          }
          return done;
        },
      },
    },
    oas3: {
      wrapActions: {
        setActiveExamplesMember: (original) => (member) => {
          const done = original(member);
          const [path, method] = member.pathMethod;
          const { specActions, specSelectors } = system.getSystem();
          const parameters = specSelectors.specJsonWithResolvedSubtrees().getIn(["paths", path, method, "parameters"]);
          const model = parameters?.find((parameter) => parameter.get("name") === "model");
          if (member.contextType === "requestBody" && model) {
            follow(() => specActions.changeParamByIdentity(member.pathMethod, model, member.name, false));
          }
          return done;
        },
      },
    },
  },
});

window.ui = window.SwaggerUIBundle({
  url: new URL("../../openapi.json", document.currentScript.src).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Else it shows the description to a service of Swagger's.
  validatorUrl: null,
  presets: [window.SwaggerUIBundle.presets.apis, window.SwaggerUIBundle.SwaggerUIStandalonePreset],
  plugins: [plugin],
});
