/** Words of the templates and of the first visit. */
export const templates = {
  title: 'Templates',
  search: 'Search templates',
  category: 'What it is for',
  all: 'All',
  categories: { money: 'Money', watch: 'Watch', people: 'People', data: 'Data', start: 'First steps', org: 'Our own' },
  use: 'Use it',
  useOf: (name: string) => `Use it: ${name}`,
  start: 'Start from a template',
  allOf: (n: number) => `All ${n} templates`,
  example: 'See what a workflow will do before it does it',
  exampleAbout:
    'Take profit sells a token above a price and pays a share out. It was simulated, tested with a cent, and run.',
  reports: 'Its reports',
  openExample: 'Open the example',
  make: 'Create the workflow',
  later: 'Choose later',
  noTable: 'There is no table yet. The workflow needs one with the columns that it names.',
  isAddress: '0x and 40 digits or letters from a to f',
}
