/** A schedule in words: typed text to the trigger that it means, and a trigger to the words that mean it. Pure. */

export type Timing = { type: 'cronjob' | 'interval' | 'schedule'; payload: Record<string, unknown> }

/** Three types, and one way to think of them. */
export const TIMED = new Set(['cronjob', 'interval', 'schedule'])

const DAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday']
const UNITS: Record<string, number> = {
  second: 1_000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 604_800_000,
}
const NUMBERS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve']
const MOST_MS = 31_536_000_000
const TIME = String.raw`(?: at)? (noon|midnight|\d{1,2}(?:[:.]\d{2})? ?(?:am|pm)?)`

const cron = (time: [number, number], days: string): Timing => ({
  type: 'cronjob',
  payload: { schedule: `${time[1]} ${time[0]} ${days}` },
})

/** Hour and minute of "9", "9:30", "9 pm", "noon"; null for what is no time of the day. */
function timeOf(text: string | undefined): [number, number] | null {
  if (text === undefined || text === 'midnight') return [0, 0]
  if (text === 'noon') return [12, 0]
  const found = text.match(/^(\d{1,2})(?:[:.](\d{2}))? ?(am|pm)?$/)
  if (!found) return null
  const [hour, minute, half] = [Number(found[1]), Number(found[2] ?? 0), found[3]]
  if (minute > 59 || hour > 23 || (half && (hour < 1 || hour > 12))) return null
  return [half ? (hour % 12) + (half === 'pm' ? 12 : 0) : hour, minute]
}

const daysOf = (text: string): string | null => {
  if (text === 'day' || text === 'daily') return '*'
  if (/^(weekday|working day)s?$/.test(text)) return '1-5'
  if (/^weekends?$/.test(text)) return '0,6'
  const places = text.split(/,? and |, ?| /).map((one) => {
    const name = one.replace(/^on /, '').replace(/s$/, '')
    return name.length < 3 ? -1 : DAYS.findIndex((day) => day === name || (name.length === 3 && day.startsWith(name)))
  })
  return places.every((one) => one >= 0) ? [...new Set(places)].sort((a, b) => a - b).join(',') : null
}

/** The trigger that the text means; null if it is not understood. */
export function readSchedule(text: string): Timing | null {
  const said = text.trim().toLowerCase().replace(/\s+/g, ' ').replace(/\.$/, '')
  const every = said.match(/^every (?:(\d+|[a-z]+) )?(second|minute|hour|day|week)s?$/)
  if (every && !(every[2] === 'day' && !every[1])) {
    const word = every[1] ?? '1'
    const count = word === 'other' ? 2 : /^\d+$/.test(word) ? Number(word) : NUMBERS.indexOf(word) + 1
    const everyMs = count * (UNITS[every[2] ?? ''] ?? 0)
    return everyMs >= 1_000 && everyMs <= MOST_MS ? { type: 'interval', payload: { everyMs } } : null
  }
  if (said === 'hourly') return { type: 'interval', payload: { everyMs: 3_600_000 } }
  const once = said.match(new RegExp(`^(?:once )?(?:on )?(\\d{4}-\\d{2}-\\d{2})${TIME}$`))
  if (once) return onceAt(once[1] ?? '', timeOf(once[2]))
  const monthly = said.match(
    new RegExp(
      `^(?:monthly |every month )?on the (\\d{1,2})(?:st|nd|rd|th)?(?: of (?:the|every|each) month)?(?:${TIME})?$`,
    ),
  )
  if (monthly) {
    const [day, time] = [Number(monthly[1]), timeOf(monthly[2])]
    return time && day >= 1 && day <= 31 ? cron(time, `${day} * *`) : null
  }
  const weekly = said.match(new RegExp(`^(?:on |every |each )?([a-z, ]+?)(?:${TIME})?$`))
  const [days, time] = [weekly && daysOf(weekly[1] ?? ''), timeOf(weekly?.[2])]
  return days && time ? cron(time, `* * ${days}`) : null
}

function onceAt(day: string, time: [number, number] | null): Timing | null {
  const at = time && `${day}T${two(time[0])}:${two(time[1])}:00`
  const moment = at ? new Date(`${at}Z`) : null
  // 2027-02-30 is no day
  if (!at || !moment || Number.isNaN(moment.getTime()) || !moment.toISOString().startsWith(day)) return null
  return { type: 'schedule', payload: { at } }
}

const two = (n: number) => String(n).padStart(2, '0')
const ENDS = ['th', 'st', 'nd', 'rd']
const ordinal = (n: number) => `${n}${(Math.floor(n / 10) === 1 ? undefined : ENDS[n % 10]) ?? 'th'}`

/** The words that `readSchedule` reads as this trigger; null if it says more than words can. */
export function saySchedule(type: string, payload: Record<string, unknown>): string | null {
  if (type === 'interval') return payload.startAt ? null : sayEvery(Number(payload.everyMs))
  if (type === 'schedule') {
    const at = typeof payload.at === 'string' ? payload.at.match(/^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):00$/) : null
    return at ? `on ${at[1]} at ${at[2]}` : null
  }
  const found = type === 'cronjob' ? String(payload.schedule ?? '').match(/^(\d{1,2}) (\d{1,2}) (\S+) \* (\S+)$/) : null
  if (!found) return null
  const [minute, hour, date, days] = [Number(found[1]), Number(found[2]), found[3], numbered(found[4] ?? '')]
  if (minute > 59 || hour > 23) return null
  const time = `at ${two(hour)}:${two(minute)}`
  if (date !== '*')
    return days === '*' && /^\d{1,2}$/.test(date ?? '') ? `on the ${ordinal(Number(date))} of the month ${time}` : null
  if (days === '*') return `every day ${time}`
  if (days === '1-5') return `weekdays ${time}`
  if (days === '0,6') return `weekends ${time}`
  if (!/^[0-6](,[0-6])*$/.test(days)) return null
  const names = days.split(',').map((one) => `${DAYS[Number(one)]}s`)
  return `${names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names[0]} ${time}`
}

/** Days of a cron line as numbers: MON-FRI is 1-5. */
const numbered = (days: string) =>
  days.replace(/[a-z]{3}/gi, (name) => {
    const place = DAYS.findIndex((day) => day.startsWith(name.toLowerCase()))
    return place < 0 ? name : String(place)
  })

function sayEvery(ms: number): string | null {
  if (!Number.isSafeInteger(ms) || ms < 1_000) return null
  for (const unit of ['week', 'day', 'hour', 'minute', 'second']) {
    const count = ms / (UNITS[unit] ?? 1)
    if (Number.isInteger(count)) return count === 1 && unit !== 'day' ? `every ${unit}` : `every ${count} ${unit}s`
  }
  return null
}
