// Swagger UI over the document that stands beside the page, ready to score a transaction.

// A browser cannot sign requests, so the page offers tokens alone; the document has signatures for programs.
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
  // The schemas stand with each operation.
  defaultModelsExpandDepth: -1,
  defaultModelExpandDepth: 3,
  // Nobody else is asked whether the document is valid.
  validatorUrl: null,
  plugins: [
    { statePlugins: { spec: { wrapActions: { updateSpec: (update) => (text) => update(withoutSignatures(text)) } } } },
  ],
  onComplete: () => {
    // A link to an operation opens that one.
    if (!location.hash) ui.layoutActions.show(["operations", "scoring", "score"], true);
  },
});
