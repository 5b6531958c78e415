/** The words of publishing, before it and after. */
export const publishing = {
  ask: 'Publish this draft?',
  go: 'Publish',
  notSimulated: 'This version has not been simulated. Simulate it first: you see what it would send.',
  simulated: 'Simulated: this version has passed.',
  when: 'Its triggers become active, and the runs they start are live.',
  manual: 'No trigger starts it: it runs when a person, a program, a public form or another workflow starts it.',
  done: 'Published',
  version: (n: number) => `Version ${n} is live.`,
  nextRun: (clock: string, away: string) => `Next run ${clock}, ${away}.`,
  nextDay: (day: string, away: string) => `Next run ${day}, ${away}.`,
  listens: 'It runs when its trigger fires.',
  fails: 'If a run fails, it is on the first page.',
  told: (names: string) => `Told as well: ${names}.`,
  nobody: 'Nobody else is told.',
  tell: 'Tell a chat or a mailbox',
  close: 'Done',
}
