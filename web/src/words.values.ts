/** Words of the values that a step can take from the steps before it. */
export const values = {
  title: 'From the steps before',
  about: 'Click a value, or drag it, to put it where you write.',
  noField: 'Click into a field first; the value goes to its caret.',
  search: 'Search values',
  close: 'Hide the values',
  insert: 'Insert',
  start: 'What starts the run',
  from: { run: 'last run', test: 'tested', trial: 'tried', shape: 'no values yet' },
  test: (name: string) => `Test “${name}”`,
  more: (n: number) => `${n} more; search for them`,
  moreSteps: (n: number) => `${n} more steps; search for their values`,
  none: 'No step comes before this one.',
}
