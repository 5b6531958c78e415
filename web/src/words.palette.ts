/** Words of the palette, the trial of a trigger, and amounts in whole coins. */
export const palette = {
  title: 'Go to',
  search: 'A page or a workflow',
  nothing: 'No page and no workflow is called that.',
  workflow: 'Workflow',
  page: 'Page',
}
export const trial = {
  about: 'Looks once, as it would when it is published. No run starts.',
  go: 'Try this trigger',
  tried: 'tried',
  event: 'What a run would start with',
  value: 'The event',
  origins: { recent: 'A real event', sample: 'A sample' },
  used: 'Expressions are completed from it, and a run from here begins with it.',
}
export const units = {
  label: (symbol: string) => `In ${symbol}`,
  wrong: (symbol: string, decimals: number) => `Write a number like 0.5; ${symbol} has at most ${decimals} decimals.`,
}
