/** Where a page shows what a search has found. Pure. */
export type Found = { type: string; id: string; name: string; category?: string | null }

const PLACES: Record<string, (one: Found) => string> = {
  workflow: ({ id }) => `/workflows/${id}`,
  run: ({ id }) => `/runs/${id}`,
  action: ({ id }) => `/workflows?actions=${encodeURIComponent(id)}`,
  operation: ({ id }) => `/workflows?actions=${encodeURIComponent(id)}`,
  trigger: ({ id }) => `/workflows?type=${encodeURIComponent(id)}`,
  template: ({ name }) => `/templates?q=${encodeURIComponent(name)}`,
  connector_def: () => '/connectors',
  doc: ({ id, category }) => (category ? `/docs#/${encodeURIComponent(category)}/${id}` : '/docs'),
}

/** Null for a kind that a newer server knows. */
export const placeOf = (one: Found): string | null => PLACES[one.type]?.(one) ?? null

/** The page of the API's documentation is no page of the app. */
export const isOutside = (href: string) => href.startsWith('/docs')
