/** Puts what is pasted into the workflow, gives the chosen steps to be pasted elsewhere, and says what was left out. */
import { useCallback, useState } from 'react'
import { stringify } from '../api/exact'
import { useCatalog } from '../api/queries'
import { edit, select, useDocument } from '../editor/document'
import { addNode, patchNode } from '../editor/edits'
import { pasteSteps } from '../editor/keys'
import { words } from '../words'
import { copyOf } from './copy'
import { readPasted } from './read'

const said = words.paste

export function usePaste(askContract: (address: string) => void) {
  const [notice, setNotice] = useState('')
  const take = useCallback(
    async (text: string) => {
      setNotice('')
      const found = await readPasted(text)
      if (!found) return setNotice(text.trim() ? said.nothing : '')
      if (found.kind === 'steps') pasteSteps(found.nodes)
      else if (found.kind === 'contract') askContract(found.address)
      else {
        const { flow, selected } = useDocument.getState()
        const after = selected[0] ?? Object.keys(flow.nodes).at(-1) ?? null
        let id = ''
        edit((old) => {
          const added = addNode(old, 'http-request', { after })
          id = added.id
          return patchNode(added.flow, id, { payload: found.curl.payload })
        })
        select([id])
        if (found.curl.leftOut.length) setNotice(said.leftOut(found.curl.leftOut.join(', ')))
      }
    },
    [askContract],
  )
  const catalog = useCatalog().data
  const copied = () => {
    const { flow, selected } = useDocument.getState()
    if (!selected.length) return null
    const { nodes, leftOut } = copyOf(flow, selected, catalog ?? {})
    setNotice(leftOut.length ? said.notCopied(leftOut.join(', ')) : '')
    return stringify({ dustrun: 1, nodes }, 2)
  }
  return { take, copied, notice, clear: () => setNotice('') }
}
