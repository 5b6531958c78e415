/** What the public reads of what they sent. Pure. */
import type { Mode, Schemas } from '../api/client'
import { form as said } from '../words.forms'

type Outcome = Pick<Schemas['SubmissionAnswer'], 'status' | 'answer'>

/** A run that has answered may go on, and one that failed may have done a part: neither is called done. */
export function outcomeWords(mode: Mode, outcome: Outcome | null): string {
  if (outcome?.status === 'done' && outcome.answer) return said.answered
  if (outcome?.status === 'done') return mode === 'simulate' ? said.rehearsed : said.done
  return outcome?.status === 'failed' ? (mode === 'simulate' ? said.rehearsalFailed : said.failed) : said.running
}
