// Swagger UI over the document that stands beside the page, ready to score a transaction.
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
  onComplete: () => {
    // A link to an operation opens that one.
    if (!location.hash) ui.layoutActions.show(["operations", "scoring", "score"], true);
  },
});
