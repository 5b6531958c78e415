/** Schedules in words, both ways. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { readSchedule, saySchedule } from '../src/model/schedule'

const cron = (schedule: string) => ({ type: 'cronjob', payload: { schedule } })
const every = (everyMs: number) => ({ type: 'interval', payload: { everyMs } })
const MEANT: [string, object][] = [
  ['every 10 minutes', every(600_000)],
  ['Every  ten minutes.', every(600_000)],
  ['every minute', every(60_000)],
  ['every other day', every(172_800_000)],
  ['every 90 seconds', every(90_000)],
  ['every 2 weeks', every(1_209_600_000)],
  ['hourly', every(3_600_000)],
  ['every day', cron('0 0 * * *')],
  ['daily at 9', cron('0 9 * * *')],
  ['every day at 9:30 pm', cron('30 21 * * *')],
  ['every day at 12 am', cron('0 0 * * *')],
  ['mondays at 9', cron('0 9 * * 1')],
  ['every monday at noon', cron('0 12 * * 1')],
  ['weekdays at 18:05', cron('5 18 * * 1-5')],
  ['weekends at 8', cron('0 8 * * 0,6')],
  ['on mon, wed and fri at 7.15', cron('15 7 * * 1,3,5')],
  ['friday and monday at 9', cron('0 9 * * 1,5')],
  ['on the 1st of the month at 9', cron('0 9 1 * *')],
  ['monthly on the 15th at 10', cron('0 10 15 * *')],
  ['on 2027-01-31 at 9:00', { type: 'schedule', payload: { at: '2027-01-31T09:00:00' } }],
  ['2027-01-31 17:30', { type: 'schedule', payload: { at: '2027-01-31T17:30:00' } }],
]

test('typed words become the trigger that they mean', () => {
  for (const [text, meant] of MEANT) assert.deepEqual(readSchedule(text), meant, text)
})

test('what is not understood is nothing', () => {
  const odd = [
    '',
    'every',
    'every blue moon',
    'every 0 minutes',
    'every day at 25',
    'every day at 9:75',
    'mondayss at 9',
  ]
  odd.push(
    'at 13 pm',
    'every day at 13 pm',
    'on 2027-02-30 at 9',
    'on the 32nd at 9',
    'every 400 days',
    'm at 9',
    'on at 9',
  )
  for (const text of odd) assert.equal(readSchedule(text), null, text)
})

test('the words of a trigger mean that trigger', () => {
  const triggers: [string, Record<string, unknown>, string][] = [
    ['interval', { everyMs: 600_000 }, 'every 10 minutes'],
    ['interval', { everyMs: 86_400_000 }, 'every 1 days'],
    ['interval', { everyMs: 3_600_000 }, 'every hour'],
    ['cronjob', { schedule: '0 9 * * 1' }, 'mondays at 09:00'],
    ['cronjob', { schedule: '5 18 * * 1-5' }, 'weekdays at 18:05'],
    ['cronjob', { schedule: '0 9 * * 1,3,5' }, 'mondays, wednesdays and fridays at 09:00'],
    ['cronjob', { schedule: '0 9 22 * *' }, 'on the 22nd of the month at 09:00'],
    ['cronjob', { schedule: '0 9 11 * *' }, 'on the 11th of the month at 09:00'],
    ['schedule', { at: '2027-01-31T09:00:00' }, 'on 2027-01-31 at 09:00'],
  ]
  for (const [type, payload, words] of triggers) {
    assert.equal(saySchedule(type, payload), words)
    assert.deepEqual(readSchedule(words), { type, payload }, words)
  }
  for (const [text, meant] of MEANT) {
    const { type, payload } = meant as { type: string; payload: Record<string, unknown> }
    assert.deepEqual(readSchedule(saySchedule(type, payload) ?? ''), meant, text)
  }
})

test('days of a cron line may have names', () => {
  assert.equal(saySchedule('cronjob', { schedule: '0 9 * * MON' }), 'mondays at 09:00')
  assert.equal(saySchedule('cronjob', { schedule: '0 9 * * mon-fri' }), 'weekdays at 09:00')
  assert.equal(saySchedule('cronjob', { schedule: '0 9 * * XYZ' }), null)
})

test('what words cannot say is left to its own line', () => {
  assert.equal(saySchedule('cronjob', { schedule: '*/10 9-17 * * MON-FRI' }), null)
  assert.equal(saySchedule('cronjob', { schedule: '{{$props.when}}' }), null)
  assert.equal(saySchedule('interval', { everyMs: 600_000, startAt: '2026-01-31T09:00:00Z' }), null)
  assert.equal(saySchedule('schedule', { rrule: 'RRULE:FREQ=DAILY' }), null)
  assert.equal(saySchedule('cronjob', {}), null)
})
