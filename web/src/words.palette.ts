/** Words of the palette, the trial of a trigger, and amounts in whole coins. */
export const palette = {
  title: 'Go to',
  search: 'A page, a workflow, a run, a step …',
  nothing: 'Nothing matches.',
  page: 'Page',
  kinds: {
    workflow: 'Workflow',
    run: 'Run',
    action: 'Step: workflows that have it',
    operation: 'Imported operation: workflows that have it',
    trigger: 'Trigger: workflows that have it',
    template: 'Template',
    connector_def: 'Type of connector',
    doc: 'API',
  } as Record<string, string>,
}
export const trial = {
  about: 'Checks once, as it would after publishing. No run starts.',
  go: 'Try this trigger',
  tried: 'tried',
  event: 'What a run would start with',
  value: 'The event',
  origins: { recent: 'A real event', sample: 'A sample' },
  used: 'Completion in expressions uses it, and runs from here start with it.',
}
export const units = {
  label: (symbol: string) => `In ${symbol}`,
  unit: (name: string) => `Unit of ${name}`,
  advanced: 'Base units, or an expression',
  wrongUsd: 'Write dollars like 12.50.',
  worth: (text: string) => `= ${text}`,
  price: (usd: string, age: string) => `at ${usd}, ${age}`,
  noPrice: (symbol: string) => `No price is known for ${symbol}. Write the amount in ${symbol}.`,
  wrong: (symbol: string, decimals: number) => `Write a number like 0.5; ${symbol} has at most ${decimals} decimals.`,
}
/** What people want, and what finds it. */
export const intents: [string, string][] = [
  ['Send money', 'send money'],
  ['Call an API', 'call api'],
  ['Ask a person', 'ask person'],
  ['Decide', 'decide'],
  ['Wait', 'wait'],
  ['Read a chain', 'onchain'],
]
