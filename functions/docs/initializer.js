// Starts Swagger UI with the OpenAPI document, and opens POST /score.

// The page offers only tokens, because a browser cannot sign requests.
const withoutSignatures = (text) => {
  const specification = JSON.parse(text);
  delete specification.components.securitySchemes.signature;
  specification.security = specification.security.filter((requirement) => !("signature" in requirement));
  return JSON.stringify(specification);
};

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // Hide the list of schemas: each operation shows its own.
  defaultModelsExpandDepth: -1,
  defaultModelExpandDepth: 3,
  // Do not send the document to a validation service.
  validatorUrl: null,
  plugins: [
    { statePlugins: { spec: { wrapActions: { updateSpec: (update) => (text) => update(withoutSignatures(text)) } } } },
  ],
  onComplete: () => {
    // With a fragment, Swagger UI opens the operation of the link.
    if (!location.hash) ui.layoutActions.show(["operations", "scoring", "score"], true);
  },
});
