/** A run that waits for a person leads to what it asks. */
import { Button } from '@mantine/core'
import { Link } from 'wouter'
import { useWaiting } from '../approval/queue'
import { short } from '../model/amounts'
import { approving as said } from '../words.approval'

import '../style/approval.css'

export function Waiting({ runId }: { runId: string }) {
  const asked = useWaiting().rows.filter((one) => one.runId === runId)
  return asked.map((one) => (
    <section key={one.id} className="waitsfor" role="status">
      <div>
        <strong>{one.kind === 'spend' ? said.waitsForYou : said.waits}</strong>
        <p dir="auto">{brief(one.message || one.path)}</p>
      </div>
      <Button component={Link} href={`/approvals/${one.id}`}>
        {said.review}
      </Button>
    </section>
  ))
}

/** Without what is for machines, which the card has behind "Exact text". */
const brief = (message: string) => short(message).replace(/ \(chain \d+, from .*/s, '')
